"""What a gateway costs, and how late it gets, as its routes and traffic grow."""
