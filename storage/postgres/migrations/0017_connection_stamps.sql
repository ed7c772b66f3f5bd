-- The order of connections over all nodes: of two of a device, the one that drew the higher stamp stays.
CREATE SEQUENCE connection_stamps;
