"""HTTP for people who review results, and for clients who wait for them."""
