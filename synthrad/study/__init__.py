"""A study: every arm trained and tested, compared and reported by one command."""
