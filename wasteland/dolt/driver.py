"""PyMySQL, without the parts for servers that are elsewhere.

Every server of ours is reached through a Unix socket, where a password needs
neither TLS nor RSA.  PyMySQL goes without `ssl` and `cryptography` where they
cannot be imported; while it is imported here, they cannot, which spares every
command half of the time that the driver takes.  Whoever imports them
afterwards finds them; where they are loaded already, PyMySQL may have them.
"""

from __future__ import annotations

import sys
from typing import Any

UNUSED = ("cryptography", "getpass", "ssl")


def _without(names: tuple[str, ...]) -> dict[str, Any]:
    """Let the modules of these names count as not installed; those that are loaded stay."""
    hidden: dict[str, Any] = {name: None for name in names if name not in sys.modules}
    sys.modules.update(hidden)
    return hidden


_hidden = _without(UNUSED)
try:
    import pymysql
    from pymysql import err
    from pymysql.constants import CLIENT, ER
    from pymysql.cursors import DictCursor
finally:
    for _name in _hidden:
        sys.modules.pop(_name, None)

Connection = pymysql.Connection
connect = pymysql.connect
__all__ = ["CLIENT", "ER", "Connection", "DictCursor", "connect", "err"]
