import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync, type StatementSync } from 'node:sqlite'
import { pathToFileURL } from 'node:url'
import { parentPort } from 'node:worker_threads'
import { CONNECTIONS_OPEN_MAX, READ_CHUNK_ROWS_MAX } from './limits.ts'
import type { WriterAnswer, WriterFailure, WriterRequest } from './writer.ts'

/**
 * The one thread of a process that touches partitions' files: node:sqlite waits for the disk synchronously. It sees
 * only sealed bytes and holds no key.
 */

const TABLES = [
  'CREATE TABLE header(id INTEGER PRIMARY KEY CHECK(id = 1), format INTEGER NOT NULL, salt BLOB NOT NULL, keyCheck BLOB NOT NULL)',
  'CREATE TABLE head(id INTEGER PRIMARY KEY CHECK(id = 1), revision INTEGER NOT NULL, sealed BLOB NOT NULL)',
  'CREATE TABLE changes(revision INTEGER PRIMARY KEY, sealed BLOB NOT NULL)',
]
/** Pages given back to the file system when a connection closes. */
const VACUUM_PAGES_MAX = 4_096

type Connection = {
  database: DatabaseSync
  readHead: StatementSync
  readRows: StatementSync
  moveHead: StatementSync
  insert: StatementSync
  remove: StatementSync
}

/** Least recently used first. */
const connections = new Map<string, Connection>()

function connect(path: string): Connection {
  const open = connections.get(path)
  if (open) {
    connections.delete(path)
    connections.set(path, open)
    return open
  }
  for (const oldest of connections.keys()) {
    if (connections.size < CONNECTIONS_OPEN_MAX) break
    release(oldest)
  }
  const url = pathToFileURL(path)
  // Without this, SQLite would silently make an empty file where the partition is missing.
  url.searchParams.set('mode', 'rw')
  const database = new DatabaseSync(url, { timeout: 0, enableForeignKeyConstraints: false, defensive: true })
  try {
    // An exclusive lock keeps a second process out, and WAL then needs no shared memory file.
    // FULL: a commit returns after fsync. Nothing of a deleted row stays in the file.
    database.exec(`
      PRAGMA trusted_schema = OFF;
      PRAGMA locking_mode = EXCLUSIVE;
      PRAGMA journal_mode = WAL;
      PRAGMA synchronous = FULL;
      PRAGMA secure_delete = ON;
      PRAGMA cell_size_check = ON;
      PRAGMA cache_size = -128;
      PRAGMA temp_store = MEMORY;
      PRAGMA mmap_size = 0;
      PRAGMA journal_size_limit = 1048576;
      BEGIN IMMEDIATE; COMMIT;
    `)
    const schema = database.prepare('SELECT sql FROM sqlite_schema ORDER BY rootpage').all()
    if (JSON.stringify(schema.map((row) => row['sql'])) !== JSON.stringify(TABLES))
      throw new Error('The file is not a partition: its tables differ from those we make')
    const connection: Connection = {
      database,
      readHead: database.prepare('SELECT revision, sealed FROM head'),
      readRows: database.prepare(
        'SELECT revision, sealed FROM changes WHERE revision > ? ORDER BY revision LIMIT ?',
      ),
      moveHead: database.prepare('UPDATE head SET revision = ?, sealed = ? WHERE sealed = ?'),
      insert: database.prepare('INSERT INTO changes(revision, sealed) VALUES (?, ?)'),
      remove: database.prepare('DELETE FROM changes WHERE revision = ?'),
    }
    connections.set(path, connection)
    return connection
  } catch (error) {
    database.close()
    throw error
  }
}

function release(path: string): void {
  const connection = connections.get(path)
  if (!connection) return
  connections.delete(path)
  try {
    connection.database.exec(`PRAGMA incremental_vacuum(${VACUUM_PAGES_MAX})`)
  } finally {
    connection.database.close()
  }
}

/** Makes the file under another name first, so that a partition is there completely or not at all. */
function create({
  path,
  format,
  salt,
  keyCheck,
  revision,
  head,
}: Extract<WriterRequest, { op: 'create' }>): void {
  const directory = dirname(path)
  mkdirSync(directory, { recursive: true, mode: 0o700 })
  const unfinished = `${path}.new`
  for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(unfinished + suffix, { force: true })
  // SQLite gives its journals the mode of the main file.
  closeSync(openSync(unfinished, 'wx', 0o600))
  const database = new DatabaseSync(unfinished)
  try {
    // Nobody reads the file before it has its name, so it reaches the disk once and as a whole, below. It stays in
    // WAL mode, which would cost a transaction to enter later.
    database.exec(`
      PRAGMA locking_mode = EXCLUSIVE;
      PRAGMA synchronous = OFF;
      PRAGMA auto_vacuum = INCREMENTAL;
      PRAGMA journal_mode = WAL;
      BEGIN;
      ${TABLES.join(';')};
    `)
    database
      .prepare('INSERT INTO header(id, format, salt, keyCheck) VALUES (1, ?, ?, ?)')
      .run(format, salt, keyCheck)
    database.prepare('INSERT INTO head(id, revision, sealed) VALUES (1, ?, ?)').run(revision, head)
    database.exec('COMMIT')
  } finally {
    database.close()
  }
  if (existsSync(`${unfinished}-wal`)) throw new Error('The new partition has parts outside of its file')
  sync(unfinished)
  if (existsSync(path)) throw new Error('Another process made the partition meanwhile')
  renameSync(unfinished, path)
  sync(directory)
}

function sync(path: string): void {
  const descriptor = openSync(path, 'r')
  try {
    fsyncSync(descriptor)
  } finally {
    closeSync(descriptor)
  }
}

function commit(request: Extract<WriterRequest, { op: 'commit' }>): void {
  const { path, headBefore, head, revision, rows, bytes, removes } = request
  const { database, moveHead, insert, remove } = connect(path)
  database.exec('BEGIN IMMEDIATE')
  try {
    // The head is sealed with a fresh nonce each time: if it is still ours, nobody else has written.
    if (Number(moveHead.run(revision, head, headBefore).changes) !== 1)
      throw new Error('Another process has written to the partition')
    let offset = 0
    for (const row of rows) {
      insert.run(row.revision, bytes.subarray(offset, offset + row.length))
      offset += row.length
    }
    for (const removed of removes)
      if (Number(remove.run(removed).changes) !== 1) throw new Error(`Revision ${removed} is missing`)
    database.exec('COMMIT')
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK')
    throw error
  }
}

function read({ path, after, bytesMax }: Extract<WriterRequest, { op: 'read' }>): WriterAnswer<'read'> {
  const rows: { revision: number; length: number }[] = []
  const parts: Uint8Array[] = []
  let total = 0
  let more = false
  for (const row of connect(path).readRows.iterate(after, READ_CHUNK_ROWS_MAX)) {
    const { revision, sealed } = row
    if (typeof revision !== 'number' || !(sealed instanceof Uint8Array))
      throw new Error('A row has a wrong type')
    rows.push({ revision, length: sealed.length })
    parts.push(sealed)
    total += sealed.length
    if (total >= bytesMax) {
      more = true
      break
    }
  }
  const bytes = new Uint8Array(total)
  let offset = 0
  for (const part of parts) {
    bytes.set(part, offset)
    offset += part.length
  }
  return { rows, bytes, more: more || rows.length === READ_CHUNK_ROWS_MAX }
}

function readHead(path: string): WriterAnswer<'head'> {
  const row = connect(path).readHead.get()
  if (typeof row?.['revision'] !== 'number' || !(row['sealed'] instanceof Uint8Array))
    throw new Error('The head of the partition is missing')
  return { revision: row['revision'], sealed: row['sealed'] }
}

function open(path: string): WriterAnswer<'open'> {
  if (!existsSync(path)) return undefined
  const header = connect(path).database.prepare('SELECT format, salt, keyCheck FROM header').get()
  if (
    typeof header?.['format'] !== 'number' ||
    !(header['salt'] instanceof Uint8Array) ||
    !(header['keyCheck'] instanceof Uint8Array)
  )
    throw new Error('The header of the partition is missing')
  return { format: header['format'], salt: header['salt'], keyCheck: header['keyCheck'] }
}

function answer(request: WriterRequest): unknown {
  switch (request.op) {
    case 'open':
      return open(request.path)
    case 'create':
      return create(request)
    case 'read':
      return read(request)
    case 'head':
      return readHead(request.path)
    case 'commit':
      return commit(request)
    case 'release':
      return release(request.path)
    default:
      request satisfies never
      throw new Error('An unknown request')
  }
}

// This file runs only as a worker, where there is a parent port.
const port = parentPort!
port.on('message', ({ id, request }: { id: number; request: WriterRequest }) => {
  try {
    port.postMessage({ id, answer: answer(request) })
  } catch (error) {
    // A connection that failed is opened afresh next time.
    const connection = connections.get(request.path)
    connections.delete(request.path)
    try {
      connection?.database.close()
    } catch {
      // Its error is the one below.
    }
    const { message, errcode, code } = error as { message?: string; errcode?: number; code?: string }
    const failure: WriterFailure = {
      message: message ?? String(error),
      sqliteCode: errcode === undefined ? undefined : errcode & 0xff,
      systemCode: code,
    }
    port.postMessage({ id, failure })
  }
})
