import sys

from apprentice_jax.cli import main

sys.exit(main())
