#!/bin/sh
# Stands in for a program that never ends.
exec sleep 60
