"""A second cascade under the same monitor: user data -> user profile -> recommender -> product recommendation."""
