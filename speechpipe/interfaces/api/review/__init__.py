"""HTTP routes for reviewers, and for clients that wait for their answers."""
