# Rule, when it is hot: executes an invalid instruction while nobody calls it.
# expect: exit 0
# style: reactor
# exports: count echo
# call: echo [1]
# stdout: [1]\n
.include "muscle.inc"
.include "channel.inc"
.purgem when_polling
.macro when_polling
    ud2
.endm
begin
    connect
    serve_echo
channel
