// Runs dispatches on SwiftShader through Dawn for Node, so that Tint compiles the shader.
//
// node tint.mjs FOLDER, which holds node_modules/webgpu. First prints a line about the adapter; then each
// line on stdin names a folder with job.json and one file a binding, and is answered by a line:
// {"ok": true} once FOLDER/result is written, or {"error": "..."}.
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const index = join(resolve(process.argv[2]), 'node_modules', 'webgpu', 'index.js');
const { create, globals } = await import(pathToFileURL(index));
Object.assign(globalThis, globals);

// Held for as long as the program runs: what nothing refers to is collected, in the middle of its work.
// Workgroup memory is not cleared first, as in the lane: SwiftShader takes a second to compile that.
const instance = create([
  'backend=vulkan', 'adapter=SwiftShader', 'enable-dawn-features=disable_workgroup_init',
]);
const adapter = await instance.requestAdapter();
if (!adapter) throw new Error('no SwiftShader adapter: is VK_DRIVER_FILES its ICD file?');
const device = await adapter.requestDevice();
say({ description: adapter.info.description });

function say(answer) {
  process.stdout.write(JSON.stringify(answer) + '\n');
}

// A buffer with the file's bytes, padded to whole vectors as the lane pads them.
function upload(bytes, usage) {
  const size = Math.ceil(bytes.length / 16) * 16;
  const buffer = device.createBuffer({ size, usage, mappedAtCreation: true });
  new Uint8Array(buffer.getMappedRange()).set(bytes);
  buffer.unmap();
  return buffer;
}

// Pipelines by what they are made of: SwiftShader takes most of a job's time to compile one.
const pipelines = new Map();

function compile(key, job, layout) {
  const made = device.createComputePipeline({
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: {
      module: device.createShaderModule({ code: job.shader }),
      entryPoint: job.entry,
      constants: job.constants,
    },
  });
  pipelines.set(key, made);
  return made;
}

async function run(folder) {
  const file = (name) => join(folder, name);
  const job = JSON.parse(readFileSync(file('job.json'), 'utf8'));
  const { STORAGE, UNIFORM, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  device.pushErrorScope('validation');
  const buffers = job.bindings.map(({ name, type }) =>
    upload(readFileSync(file(name)), type === 'uniform' ? UNIFORM : STORAGE | COPY_SRC));
  const layout = device.createBindGroupLayout({
    entries: job.bindings.map(({ type }, i) =>
      ({ binding: i, visibility: GPUShaderStage.COMPUTE, buffer: { type } })),
  });
  const kinds = job.bindings.map(({ type }) => type);
  const key = JSON.stringify([job.shader, job.entry, job.constants, kinds]);
  const pipeline = pipelines.get(key) ?? compile(key, job, layout);
  const result = buffers[job.bindings.findIndex(({ name }) => name === 'result')];
  const read = device.createBuffer({ size: result.size, usage: COPY_DST | MAP_READ });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({
    layout,
    entries: buffers.map((buffer, i) => ({ binding: i, resource: { buffer } })),
  }));
  pass.dispatchWorkgroups(...job.grid);
  pass.end();
  encoder.copyBufferToBuffer(result, 0, read, 0, result.size);
  device.queue.submit([encoder.finish()]);
  const error = await device.popErrorScope();
  if (error) {
    pipelines.delete(key);
    throw new Error(error.message);
  }
  await read.mapAsync(GPUMapMode.READ);
  writeFileSync(file('result'), new Uint8Array(read.getMappedRange()));
  for (const buffer of [...buffers, read]) buffer.destroy();
}

for await (const folder of createInterface({ input: process.stdin })) {
  try {
    await run(folder);
    say({ ok: true });
  } catch (error) {
    say({ error: String(error) });
  }
}
// Not left to the collector, whose order is its own.
process.exit(0);
