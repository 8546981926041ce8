# Rule: each act on files does what it says, within the granted directory.
# expect: exit 7
# slots: dir=files:rw:65536:8
# files: dir/inside=hello
# bind: dir=dir:{}/dir:rw
.include "muscle.inc"
.include "channel.inc"

# One call of a capability that answers with something; r8 is kept for the handle.
.macro act label
    grant 0
    call_host \label, (\label\()_end - \label)
    expect_frame KIND_RETURN
.endm

# The same for an act on the open file, whose number is the payload's second byte.
.macro act_on_file label, number
    grant 0
    mov r8, rax
    copy_frame \label, (\label\()_end - \label)
    mov [r12 + BODY + 16], r8
    mov al, [rip + file]
    mov [r12 + BODY + (\number - \label)], al
    send DATA, RPC_PORT, (\label\()_end - \label)
    expect_frame KIND_RETURN
.endm

    .section .rodata
mkdir:
    call_frame 1, "files.mkdir", mkdir_end
    .byte 0x81, 0x63
    .ascii "sub"
mkdir_end:
open:
    call_frame 2, "files.open", open_end
    .byte 0x82, 0x67
    .ascii "sub/new"
    .byte 3
open_end:
write:
    call_frame 3, "files.write", write_end
    .byte 0x83
write_file:
    .byte 0, 0, 0x44
    .ascii "ping"
write_end:
truncate:
    call_frame 4, "files.truncate", truncate_end
    .byte 0x82
truncate_file:
    .byte 0, 2
truncate_end:
read:
    call_frame 5, "files.read", read_end
    .byte 0x83
read_file:
    .byte 0, 0, 16
read_end:
close:
    call_frame 6, "files.close", close_end
    .byte 0x81
close_file:
    .byte 0
close_end:
rename:
    call_frame 7, "files.rename", rename_end
    .byte 0x82, 0x67
    .ascii "sub/new"
    .byte 0x65
    .ascii "moved"
rename_end:
stat:
    call_frame 8, "files.stat", stat_end
    .byte 0x81, 0x65
    .ascii "moved"
stat_end:
list:
    call_frame 9, "files.list", list_end
    .byte 0x81, 0x63
    .ascii "sub"
list_end:
remove:
    call_frame 10, "files.remove", remove_end
    .byte 0x81, 0x65
    .ascii "moved"
remove_end:
remove_folder:
    call_frame 11, "files.remove", remove_folder_end
    .byte 0x81, 0x63
    .ascii "sub"
remove_folder_end:
begin
    connect
    act mkdir
    act open
    mov al, [rsi + 24]
    mov [rip + file], al
    act_on_file write, write_file
    act_on_file truncate, truncate_file
    act_on_file read, read_file
    # The two bytes that the truncated file still has, behind a length of four bytes.
    cmp byte ptr [rsi + 24], 0x5a
    jne 1f
    cmp dword ptr [rsi + 25], 0x02000000
    jne 1f
    cmp word ptr [rsi + 29], 0x6970
    jne 1f
    act_on_file close, close_file
    act rename
    act stat
    # A file of two bytes.
    cmp word ptr [rsi + 24], 0x0082
    jne 1f
    cmp byte ptr [rsi + 26], 2
    jne 1f
    act list
    # It was moved away, so the folder is empty.
    cmp byte ptr [rsi + 24], 0x80
    jne 1f
    act remove
    act remove_folder
    exit 7
1:  exit CODE_WRONG_ANSWER
channel
    .data
file:
    .byte 0
    .text
