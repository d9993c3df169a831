"""Nexus: a real-time server for fleets of agents and the people who watch them."""

import warnings

__version__ = "0.1.0"

# Autobahn imports passlib where that is installed, for clients; before Python 3.13 that warns of the crypt module, and there is
# no log yet that could take the line.
warnings.filterwarnings("ignore", category=DeprecationWarning, module="passlib")
