"""How this package starts other programs: the terminal's Ctrl-C is for the program that was called, not for these.

That one decides what its children still have to do, such as to clear a phone, and ends them itself.
"""

import subprocess
import sys
from typing import Any

# Keyword arguments of subprocess.Popen and run. Windows ignores start_new_session, all others refuse creationflags.
OWN_GROUP: dict[str, Any] = (
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP} if sys.platform == "win32" else {"start_new_session": True}
)
