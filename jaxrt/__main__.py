"""`python -m jaxrt` is `jaxrt`."""

from jaxrt.cli.main import main

main()
