# Base, contracts, engine, bootstrap, communicator, public entry points.
EXTRA_DIST += %D%/libgyre.map
