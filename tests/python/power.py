"""What a loss of power can leave of files, from a record that tests/record_writes.c made.

    from power import Disk, events
    disk = Disk()
    for event in events(bytes):         # each an Event
        disk.apply(event)
        disk.crash(choice)              # {path: bytes, or None for a folder} after a loss of power at this moment

A write counts as durable once its file was synced after it, an entry of a folder once that folder was. Of what is not
durable anything may be there: `choice` is LOST (nothing of it), KEPT (all: the program was killed, the machine goes on),
NAMES (entries of folders, no data: lengths too are data), DATA (data, no entries), or a random.Random that drops, keeps and
tears each write, leaves zeros in the place of some, and drops entries one by one.
"""
import struct
from collections import namedtuple

ROOT, CREATE, MAKE_FOLDER, TRUNCATE, WRITE, SYNC, RENAME, REMOVE, OUTPUT = range(1, 10)
LOST, KEPT, NAMES, DATA = "lost", "kept", "names", "data"
SECTOR = 512

Event = namedtuple("Event", "operation one other first second")


def events(record):
    at = 0
    while at < len(record):
        operation, one, other, first, second = struct.unpack_from("<5Q", record, at)
        at += 40
        yield Event(operation, one, other, record[at:at + first], record[at + first:at + first + second])
        at += first + second


def written(data, offset, part):
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset:offset + len(part)] = part


class File:
    def __init__(self):
        self.durable, self.pending = bytearray(), []  # (offset, bytes), or (length, None): cut or grown to it

    def sync(self):
        self.durable, self.pending = self.content(KEPT), []

    def content(self, choice):
        data = bytearray(self.durable)
        for offset, part in [] if choice in (LOST, NAMES) else self.pending:
            how = "keep" if isinstance(choice, str) else choice.choice(["keep", "keep", "drop", "tear", "zero"])
            if how == "drop":
                continue
            if part is None:
                del data[offset:]
                data.extend(bytes(offset - len(data)))
            elif how == "tear":  # the beginning came and not the end, or the other way round
                cut = choice.randrange(len(part)) // SECTOR * SECTOR if len(part) > SECTOR else choice.randrange(len(part))
                if choice.random() < 0.5:
                    written(data, offset, part[:cut])
                else:
                    written(data, offset + cut, part[cut:])
            elif how == "zero":
                if offset + len(part) > len(data):  # the length came, the data did not
                    data.extend(bytes(offset + len(part) - len(data)))
            else:
                written(data, offset, part)
        return data


class Folder:
    def __init__(self):
        self.durable, self.pending = {}, []  # (name, inode), or (name, None): gone

    def sync(self):
        self.durable, self.pending = self.content(KEPT), []

    def content(self, choice):
        entries = dict(self.durable)
        for change in [] if choice in (LOST, DATA) else self.pending:
            if not isinstance(choice, str) and choice.random() < 0.4:
                continue
            for name, inode in change:  # a renaming in one folder is one change
                if inode is None:
                    entries.pop(name, None)
                else:
                    entries[name] = inode
        return entries


class Disk:
    def __init__(self):
        self.root, self.nodes, self.output = None, {}, bytearray()

    def folder(self, path):
        """The folder that a path's last name is in, and the name."""
        *above, name = path.decode().split("/")
        folder = self.nodes[self.root]
        for part in above:
            folder = self.nodes[folder.content(KEPT)[part]]
        return folder, name

    def apply(self, event):
        operation = event.operation
        if operation == ROOT:
            if self.root is None:
                self.root = event.one
                self.nodes[event.one] = Folder()
        elif operation in (CREATE, MAKE_FOLDER):
            self.nodes[event.one] = File() if operation == CREATE else Folder()
            folder, name = self.folder(event.first)
            folder.pending.append([(name, event.one)])
        elif operation == TRUNCATE:
            self.nodes[event.one].pending.append((event.other, None))
        elif operation == WRITE:
            self.nodes[event.one].pending.append((event.other, event.first))
        elif operation == SYNC:
            self.nodes[event.one].sync()
        elif operation == RENAME:
            (source, old), (target, new) = self.folder(event.first), self.folder(event.second)
            inode = source.content(KEPT)[old]
            if source is target:
                source.pending.append([(old, None), (new, inode)])
            else:
                target.pending.append([(new, inode)])
                source.pending.append([(old, None)])
        elif operation == REMOVE:
            folder, name = self.folder(event.first)
            folder.pending.append([(name, None)])
        elif operation == OUTPUT:
            self.output += event.first

    def read(self, path):
        """What the program itself would read there."""
        folder, name = self.folder(path)
        return bytes(self.nodes[folder.content(KEPT)[name]].content(KEPT))

    def crash(self, choice):
        files = {}
        self._collect(self.nodes[self.root], "", choice, files)
        return files

    def _collect(self, folder, path, choice, files):
        for name, inode in folder.content(choice).items():
            node = self.nodes[inode]
            if isinstance(node, Folder):
                files[path + name] = None
                self._collect(node, path + name + "/", choice, files)
            else:
                files[path + name] = bytes(node.content(choice))
