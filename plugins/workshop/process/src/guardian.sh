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
for environ in /proc/[0-9]*/environ; do
    if grep -qF "ECHO_TRACK=$1:" "$environ"; then
        process=${environ#/proc/}
        kill -9 "${process%/environ}"
    fi
done
rm -rf -- "$1"
