"""Commands of the command line that are more than a few lines; modyn/cli.py registers them."""
