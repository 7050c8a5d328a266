#!/bin/sh
# A stand-in for the simulator: does what the variable FAKE_SIM says, or else the file that it is
# given as its plan.
case "$1" in
--version) echo "quorate-sim 0.0.0 (fake)" ;;
*) if [ -n "$FAKE_SIM" ]; then exec sh -c "$FAKE_SIM"; else exec sh "$2"; fi ;;
esac
