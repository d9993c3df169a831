"""Clients that join, listen, and come back or not as their libraries make them: each is run as `PROGRAM PORT WAY TICKET`.

WAY is `ws` or `rs`. TICKET is shown as the client's secret. Each says in JSON lines what happens: `{"joined": SESSION}` once it
has subscribed to `com.example.news` in the realm `open`, `{"heard": WORD}` for each short event, `{"stopped": WHY}` once its
library has given up for good; some say `{"refused": WHY}` for each attempt that fails. Retries are shortened as far as the
library lets its users do so.
"""
