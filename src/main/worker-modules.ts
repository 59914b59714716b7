// What a process with control planes loads, and nothing that happens: the node agent has it compiled once for all of them.
import '../apiserver/index.ts'
import '../controllers/index.ts'
import '../jail/index.ts'
import '../rego/index.ts'
import './control-channel.ts'
import './control-plane.ts'
import './environment.ts'
import './tenant-limits.ts'
