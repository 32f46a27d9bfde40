"""What the commands of the command line do; importing them imports torch."""
