-- Shops: businesses and their staff, products and variants, stock, carts, orders.
--
-- Invariants
--   * `stock.available` and `stock.reserved` are the sums of the movements of the variant, and never negative. What is
--     reserved is what orders hold that are placed, and neither shipped nor cancelled.
--   * An order and its payment name each other; only the payment that the order names moves it. Its versions begin with 1,
--     and grow by 1; `order_versions` and `stock_movements` refuse changes.
--   * Lines of an order are copies: what a product costs later changes no order.
-- Locks: a step of an order locks its payment first, then what the ledger locks, then the order, its stock (sorted by
-- variant), and last the number that it gets. So stock comes after wallets here: only in the call that ends a payment is it
-- known that the stock is free again. No function locks a wallet while it holds stock. A cart is locked before stock.

CREATE TABLE businesses (
    business_id uuid PRIMARY KEY,  -- a principal of the chat
    tenant_id   smallint NOT NULL,
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    description text NOT NULL CHECK (length(description) <= 1000),
    currencies  text[] NOT NULL CHECK (cardinality(currencies) BETWEEN 1 AND 16),
    status      smallint NOT NULL,
    version     int NOT NULL,
    moved_us    bigint NOT NULL
);

CREATE TABLE staff (
    business_id uuid NOT NULL,
    person_id   uuid NOT NULL,
    tenant_id   smallint NOT NULL,
    role        smallint NOT NULL,
    since_us    bigint NOT NULL,
    PRIMARY KEY (business_id, person_id)
);
CREATE INDEX staff_of_person ON staff (person_id, business_id);

CREATE TABLE shipping_options (
    option_id        uuid PRIMARY KEY,
    business_id      uuid NOT NULL,
    name             text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    currency         text NOT NULL,
    price            bigint NOT NULL CHECK (price BETWEEN 0 AND 1000000000000000),
    tax_basis_points int NOT NULL CHECK (tax_basis_points BETWEEN 0 AND 10000),
    status           smallint NOT NULL,
    version          int NOT NULL
);
CREATE INDEX shipping_options_of_business ON shipping_options (business_id, option_id);

CREATE TABLE products (
    product_id       uuid PRIMARY KEY,
    business_id      uuid NOT NULL,
    tenant_id        smallint NOT NULL,
    name             text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    description      text NOT NULL CHECK (length(description) <= 5000),
    category         text NOT NULL CHECK (length(category) <= 100),
    currency         text NOT NULL,
    tax_basis_points int NOT NULL CHECK (tax_basis_points BETWEEN 0 AND 10000),
    ships            boolean NOT NULL,  -- it is sent to somewhere: an order needs a way of shipping
    images           text[] NOT NULL CHECK (cardinality(images) <= 20),
    attributes       jsonb NOT NULL CHECK (jsonb_typeof(attributes) = 'object'),
    status           smallint NOT NULL,
    version          int NOT NULL,
    moved_us         bigint NOT NULL
);
CREATE INDEX products_of_business ON products (business_id, product_id);
CREATE INDEX products_active ON products (business_id, product_id) WHERE status = 2;

CREATE TABLE variants (
    variant_id  uuid PRIMARY KEY,
    product_id  uuid NOT NULL,
    business_id uuid NOT NULL,
    tenant_id   smallint NOT NULL,
    sku         text NOT NULL CHECK (length(sku) BETWEEN 1 AND 64),
    name        text NOT NULL CHECK (length(name) <= 100),
    price       bigint NOT NULL CHECK (price BETWEEN 1 AND 1000000000000000),
    tracked     boolean NOT NULL,  -- false: there is always enough of it
    attributes  jsonb NOT NULL CHECK (jsonb_typeof(attributes) = 'object'),
    status      smallint NOT NULL,
    version     int NOT NULL,
    moved_us    bigint NOT NULL,
    UNIQUE (business_id, sku)
);
CREATE INDEX variants_of_product ON variants (product_id, variant_id);

CREATE TABLE stock (
    variant_id  uuid PRIMARY KEY,
    business_id uuid NOT NULL,
    available   bigint NOT NULL CHECK (available BETWEEN 0 AND 1000000000000),
    reserved    bigint NOT NULL CHECK (reserved BETWEEN 0 AND 1000000000000),
    moved_us    bigint NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX stock_of_business ON stock (business_id, variant_id);

CREATE TABLE stock_movements (
    movement_no      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    variant_id       uuid NOT NULL,
    at_us            bigint NOT NULL,
    move             smallint NOT NULL,
    available_change bigint NOT NULL,
    reserved_change  bigint NOT NULL,
    available_after  bigint NOT NULL,
    reserved_after   bigint NOT NULL,
    order_id         uuid,
    actor_id         uuid NOT NULL
);
CREATE INDEX stock_movements_of_variant ON stock_movements (variant_id, movement_no);

CREATE TABLE carts (
    person_id   uuid NOT NULL,
    business_id uuid NOT NULL,
    PRIMARY KEY (person_id, business_id)
);

CREATE TABLE cart_lines (
    person_id   uuid NOT NULL,
    business_id uuid NOT NULL,
    variant_id  uuid NOT NULL,
    quantity    int NOT NULL CHECK (quantity BETWEEN 1 AND 10000),
    PRIMARY KEY (person_id, business_id, variant_id)
);

-- A line of a cart with what it costs now. `amount` is without tax, `tax` is added to it.
CREATE TYPE priced_line AS (
    line_no int, product_id uuid, variant_id uuid, sku text, name text, variant_name text, currency text,
    quantity int, unit_price bigint, tax_basis_points int, amount numeric, tax numeric, tracked boolean, ships boolean,
    active boolean, available bigint
);

-- Numbers of the orders of a business: the slot -1 is its counter, the other slots have taken some numbers off it.
CREATE TABLE order_numbers (
    business_id uuid NOT NULL,
    slot        smallint NOT NULL,
    next_number bigint NOT NULL,
    end_number  bigint NOT NULL,  -- the first that is not the slot's
    PRIMARY KEY (business_id, slot)
) WITH (fillfactor = 50);

CREATE TABLE orders (
    order_id    uuid PRIMARY KEY,
    tenant_id   smallint NOT NULL,
    business_id uuid NOT NULL,
    customer_id uuid NOT NULL,
    number      bigint NOT NULL,
    payment_id  uuid NOT NULL,
    dialog_id   uuid,
    address_id  uuid,
    currency    text NOT NULL,
    subtotal    bigint NOT NULL,
    tax         bigint NOT NULL,
    shipping    bigint NOT NULL,
    total       bigint NOT NULL,
    state       smallint NOT NULL,
    version     int NOT NULL,
    placed_us   bigint NOT NULL,
    moved_us    bigint NOT NULL,
    UNIQUE (business_id, number),
    CHECK (total = subtotal + tax + shipping)
) WITH (fillfactor = 70);
CREATE INDEX orders_of_customer ON orders (customer_id, order_id);
CREATE INDEX orders_of_business ON orders (business_id, order_id);
CREATE INDEX orders_by_state ON orders (business_id, state, order_id);

CREATE TABLE order_lines (
    order_id         uuid NOT NULL,
    line_no          int NOT NULL,
    kind             smallint NOT NULL,
    product_id       uuid,
    variant_id       uuid,
    sku              text NOT NULL,
    name             text NOT NULL,
    variant_name     text NOT NULL,
    quantity         int NOT NULL,
    unit_price       bigint NOT NULL,
    tax_basis_points int NOT NULL,
    amount           bigint NOT NULL,
    tax              bigint NOT NULL,
    tracked          boolean NOT NULL,  -- it was reserved
    PRIMARY KEY (order_id, line_no)
);

CREATE TABLE order_versions (
    order_id uuid NOT NULL,
    version  int NOT NULL,
    at_us    bigint NOT NULL,
    event    smallint NOT NULL,
    state    smallint NOT NULL,
    actor_id uuid NOT NULL,
    PRIMARY KEY (order_id, version)
);
