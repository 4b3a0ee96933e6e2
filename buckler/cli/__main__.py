"""`python -m buckler.cli`."""

from buckler.cli import main

if __name__ == "__main__":
    main()
