"""Text that strangers wrote, made safe to print; the rules are those of `wasteland.text`.

This module and `federation` are the only two that know of the wasteland
package: one set of rules for hostile characters is enough.
"""

from __future__ import annotations

from wasteland.addresses import without_secrets
from wasteland.text import masked, reason, show, show_lines

__all__ = ["masked", "reason", "show", "show_lines", "without_secrets"]
