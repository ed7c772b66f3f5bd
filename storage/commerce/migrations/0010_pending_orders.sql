-- Orders that are not paid: a customer may have few of them at a business.
CREATE INDEX orders_pending ON orders (customer_id, business_id) WHERE state = 1;
