"""A Twisted application with Nexus inside: twistd -n --pidfile= -y shop.tac

Commands are methods of the application's own objects, which a web page uses, too. Change the addresses by SHOP_NEXUS and SHOP_WEB.
"""

import os

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.web.server import Site

from nexus_tw.app.embedded import NexusService
from orders import Orders, OrdersPage

application = Application("shop")


def publish(event_type, data):
    return nexus.publish(event_type, data)


orders = Orders(publish)
nexus = NexusService(
    reactor,
    listen=[os.environ.get("SHOP_NEXUS", "tcp:3000:interface=127.0.0.1")],
    store="sqlite:shop.db",
    token=os.environ["NEXUS_TOKEN"],
    commands={"order.place": orders.place, "order.list": orders.list},
)
nexus.setServiceParent(application)
# Without Nexus the rest would serve nobody; the log says what was wrong.
nexus.started().addErrback(lambda _failure: reactor.stop())

web = serverFromString(reactor, os.environ.get("SHOP_WEB", "tcp:8080:interface=127.0.0.1"))
StreamServerEndpointService(web, Site(OrdersPage(orders))).setServiceParent(application)
