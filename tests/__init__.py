"""Tests, as a package of their own: other libraries install one of the same name."""
