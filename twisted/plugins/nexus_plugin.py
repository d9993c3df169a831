"""Makes `twistd nexus` known. Every twistd on the machine loads this file, so it imports nothing of Nexus."""

from twisted.application.service import ServiceMaker

nexus = ServiceMaker("Nexus", "nexus_tw.app.tap", "A real-time server for fleets of agents.", "nexus")
