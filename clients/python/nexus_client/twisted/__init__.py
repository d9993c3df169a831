"""The client for Twisted: a service of one's own application, with Deferreds.

    from nexus_client.twisted import Nexus

    nexus = Nexus(reactor, "https://fleet.example", token=fetch_token)
    nexus.command("deploy")(deploy)
    nexus.subscribe("task.**", on_event)
    nexus.setServiceParent(application)

Needs the extra: `pip install 'nexus-client[twisted]'`.
"""

from nexus_client.twisted.handlers import Call
from nexus_client.twisted.service import Nexus
from nexus_client.twisted.subscription import Subscription
from nexus_client.twisted.telemetry import Recorded

__all__ = ["Call", "Nexus", "Recorded", "Subscription"]
