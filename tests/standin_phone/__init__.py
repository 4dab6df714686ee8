"""What stands behind the stand-in phone's adbd: wire protocol, services, file system, commands, benchmark programs."""
