"""Pages for people: templates, static files, and what fills them."""
