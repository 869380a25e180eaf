# Greets each guest who writes a name to the pipe `door`, and answers on the pipe `hall`.
# $ECHO_SCRATCH is a folder of the service's own, which is removed with it.
cd "$ECHO_SCRATCH" || exit 1
mkfifo door hall || exit 1
echo "at your service"
while true; do
    read -r guest <door || continue
    echo "$guest" >>guests.txt
    echo "Welcome, $guest!" >hall
done
