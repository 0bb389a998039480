"""The sections of a configuration, each file holding those of one idea."""
