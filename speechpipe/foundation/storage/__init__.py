"""Storage: records and their writer, the database, its schema and migrations, leases."""
