-- What the service needs beside the books: keys of platform services, and rates of exchange.

-- A key belongs to its name: who makes it again gives it another secret, and what it sent before stays its own.
CREATE TABLE api_keys (
    caller_id  uuid PRIMARY KEY,
    tenant_id  smallint NOT NULL,
    name       text NOT NULL,
    key_hash   bytea NOT NULL UNIQUE,
    rights     smallint NOT NULL,
    businesses uuid[] NOT NULL,  -- for whom it acts
    UNIQUE (tenant_id, name)
);

-- Minor units of the one currency for one minor unit of the other.
CREATE TABLE exchange_rates (
    tenant_id     smallint NOT NULL,
    sell_currency text NOT NULL,
    buy_currency  text NOT NULL,
    rate          numeric NOT NULL CHECK (rate > 0),
    PRIMARY KEY (tenant_id, sell_currency, buy_currency)
);
