"""One file a stage; a stage is glue between the run's folder and the packages."""
