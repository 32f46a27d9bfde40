"""Ways to draw pictures: tables of steps, sequences of levels, and the loop that takes them."""
