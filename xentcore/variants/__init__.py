"""The variants, one file each. A file added here is found, routed, documented and tested."""
