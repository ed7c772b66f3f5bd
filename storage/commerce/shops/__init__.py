"""Shops in the database of commerce: businesses, staff, products, stock, carts, orders."""
