"""WAMP version 2 as bytes and values: messages, serializers, URIs. https://wamp-proto.org/wamp_latest_ietf.html"""
