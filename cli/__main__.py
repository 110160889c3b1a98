"""``python -m zerocon.cli``"""

from . import main

main(prog_name="zerocon")
