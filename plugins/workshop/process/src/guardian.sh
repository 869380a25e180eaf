# Outlives a host that is killed and ends what it has left: $1 is the host's scratch folder.
# Reads `+ GROUP` and `- GROUP` lines for the process groups that live, until the host closes the pipe.
trap '' HUP INT TERM
groups=' '
while read -r sign group; do
    case $sign in
        +) groups="$groups$group " ;;
        -) case $groups in
               *" $group "*) groups="${groups%%" $group "*} ${groups#*" $group "}" ;;
           esac ;;
    esac
done
for group in $groups; do
    kill -9 "-$group"
done
# One that starts another while it is looked for leaves that to the next round.
for round in 1 2 3; do
    marked=$(grep -lF "ECHO_TRACK=$1:" /proc/[0-9]*/environ)
    [ -n "$marked" ] || break
    for environ in $marked; do
        process=${environ#/proc/}
        kill -9 "${process%/environ}"
    done
done
rm -rf -- "$1"
