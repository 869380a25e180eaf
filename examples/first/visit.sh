# visit.sh NAME: writes the name to the greeter and shows the answer.
cd "$ECHO_SCRATCH" || exit 1
echo "$1" >door
cat hall
