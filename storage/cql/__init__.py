"""Timelines on a CQL server: ScyllaDB, or Apache Cassandra."""
