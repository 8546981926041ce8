# Breaks no rule: answers every call with the call's own arguments, as long as they fit into one packet, and counts in
# its data how many it has answered: the function `count` answers with that.
# expect: exit 0
# style: reactor
# exports: count echo
# call: echo [1]
# stdout: [1]\n
.include "muscle.inc"
.include "channel.inc"
begin
    connect
    serve_echo
channel
