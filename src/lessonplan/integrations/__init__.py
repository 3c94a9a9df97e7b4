"""What other libraries' users put in a place that they have: a module for each library, named after it."""
