#!/bin/sh
# Replaces a program with one that never ends.
exec sleep 60
