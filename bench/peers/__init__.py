"""What others would write in an afternoon: small servers for the same JSON protocol, to compare with.

They check no rights, keep nothing, and speak to nobody else. Only what the scenarios need is there.
"""
