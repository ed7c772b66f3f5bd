// Matrix' own client of a device, driven by lines of JSON on stdin: {"call": name, "args": [...]}, one answer a line.
// The first argument is the folder that has node_modules. State is in memory.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(process.argv[2] + "/");
const sdk = require("@matrix-org/matrix-sdk-crypto-wasm");

const untrusted = () => new sdk.DecryptionSettings(sdk.TrustRequirement.Untrusted);
const user = (id) => new sdk.UserId(id);
let machine;

const calls = {
    // Make a device; answers with what it uploads.
    async start(userId, deviceId) {
        machine = await sdk.OlmMachine.initialize(user(userId), new sdk.DeviceId(deviceId));
        for (const request of await machine.outgoingRequests()) {
            if (request.type !== sdk.RequestType.KeysUpload) continue;
            const counts = { one_time_key_counts: { signed_curve25519: 50 } };
            await machine.markRequestAsSent(request.id, request.type, JSON.stringify(counts));
            return JSON.parse(request.body);
        }
    },
    // Learn the devices of people: {user: {device: keys}}.
    async know(devices) {
        const users = () => Object.keys(devices).map(user);
        await machine.updateTrackedUsers(users());
        const request = machine.queryKeysForUsers(users());
        await machine.markRequestAsSent(request.id, request.type, JSON.stringify({ device_keys: devices, failures: {} }));
    },
    // Open channels with one-time keys: {user: {device: {id: key}}}.
    async claimed(keys) {
        const request = await machine.getMissingSessions(Object.keys(keys).map(user));
        await machine.markRequestAsSent(request.id, request.type, JSON.stringify({ one_time_keys: keys, failures: {} }));
    },
    // Hand the session of a room to people; answers with a message for each device: {user: {device: content}}.
    async share(room, users) {
        const settings = new sdk.EncryptionSettings();
        const requests = await machine.shareRoomKey(new sdk.RoomId(room), users.map(user), settings);
        const messages = {};
        for (const request of requests) {
            for (const [userId, devices] of Object.entries(JSON.parse(request.body).messages)) {
                messages[userId] = { ...messages[userId], ...devices };
            }
            await machine.markRequestAsSent(request.id, request.type, "{}");
        }
        return messages;
    },
    // Seal an event of a room; answers with the content of its m.room.encrypted.
    async encrypt(room, type, content) {
        return JSON.parse(await machine.encryptRoomEvent(new sdk.RoomId(room), type, JSON.stringify(content)));
    },
    // Take messages to this device: [{type, sender, content}]; answers with the types that they had inside.
    async receive(events) {
        const changed = new sdk.DeviceLists([], []);
        const taken = await machine.receiveSyncChanges(JSON.stringify(events), changed, new Map(), new Set(), untrusted());
        return taken.map((event) => JSON.parse(event.rawEvent).type);
    },
    // Open an event of a room; answers with what was inside.
    async decrypt(room, event) {
        const opened = await machine.decryptRoomEvent(JSON.stringify(event), new sdk.RoomId(room), untrusted());
        return JSON.parse(opened.event);
    },
};

await sdk.initAsync();
for await (const line of createInterface({ input: process.stdin })) {
    const { call, args } = JSON.parse(line);
    let answer;
    try {
        answer = { result: (await calls[call](...args)) ?? null };
    } catch (error) {
        answer = { error: String(error?.message ?? error) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
}
