"""`python -m bnn_pyro`: the command line."""

from bnn_pyro.cli import main

if __name__ == "__main__":
    main()
