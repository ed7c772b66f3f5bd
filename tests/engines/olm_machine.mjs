// Matrix' own client of a device, driven by lines of JSON on stdin: {"call": name, "args": [...]}, one answer a line.
// The first argument is the folder that has node_modules. State is in memory.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(process.argv[2] + "/");
const sdk = require("@matrix-org/matrix-sdk-crypto-wasm");

const trusting = (whom) => new sdk.DecryptionSettings(sdk.TrustRequirement[whom]);
const user = (id) => new sdk.UserId(id);
const methods = () => [
    sdk.VerificationMethod.SasV1,
    sdk.VerificationMethod.QrCodeShowV1,
    sdk.VerificationMethod.QrCodeScanV1,
    sdk.VerificationMethod.ReciprocateV1,
];
let machine;
let signed = {}; // what the machine has signed and uploaded: {user: {key: object}}

// What requests would send to devices, as [{type, content}]: these requests, and those that the machine has waiting.
async function sent(requests) {
    const messages = [];
    for (const request of [...requests, ...(await machine.outgoingRequests())]) {
        if (request?.type === sdk.RequestType.SignatureUpload) signed = { ...signed, ...JSON.parse(request.body) };
        if (request?.type !== sdk.RequestType.ToDevice) continue;
        await machine.markRequestAsSent(request.id, request.type, "{}");
        for (const devices of Object.values(JSON.parse(request.body).messages)) {
            for (const content of Object.values(devices)) messages.push({ type: request.event_type, content });
        }
    }
    return messages;
}

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
    // Make an identity; answers with its three objects.
    async bootstrap() {
        const requests = await machine.bootstrapCrossSigning(true);
        return JSON.parse(requests.uploadSigningKeysRequest.body);
    },
    // Learn the devices of people, {user: {device: keys}}, and their identities, {master_keys, self_signing_keys, ...}.
    async know(devices, identities = {}) {
        const users = () => Object.keys(devices).map(user);
        await machine.updateTrackedUsers(users());
        const request = machine.queryKeysForUsers(users());
        await machine.markRequestAsSent(request.id, request.type, JSON.stringify({ device_keys: devices, failures: {}, ...identities }));
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
        const taken = await machine.receiveSyncChanges(JSON.stringify(events), changed, new Map(), new Set(), trusting("Untrusted"));
        return taken.map((event) => JSON.parse(event.rawEvent).type);
    },
    // Take the next step of a verification; answers with the messages to the other device.
    async verification(userId, flow, step, code) {
        const request = machine.getVerificationRequest(user(userId), flow);
        const running = () => request.getVerification();
        const steps = {
            accept: async () => [request.acceptWithMethods(methods())],
            start: async () => [(await request.startSas())[1]],
            acceptSas: async () => [running().accept()],
            confirm: async () => await running().confirm(),
            scan: async () => [(await request.scanQrCode(sdk.QrCodeScan.fromBytes(new Uint8ClampedArray(code)))).reciprocate()],
            confirmScanning: async () => [running().confirmScanning()],
            answer: async () => [],
        };
        return await sent(await steps[step]());
    },
    // The bytes of the code that the machine shows.
    async code(userId, flow) {
        const shown = await machine.getVerificationRequest(user(userId), flow).generateQrCode();
        return Array.from(shown.toBytes());
    },
    // What people compare, and what has come of it.
    async compared(userId, flow) {
        const request = machine.getVerificationRequest(user(userId), flow);
        const running = request.getVerification();
        const emoji = running?.emoji?.()?.map((one) => `${one.symbol} ${one.description}`);
        return { emoji, numbers: Array.from(running?.decimals?.() ?? []), done: request.isDone(), signed: signed[userId] };
    },
    // Open an event of a room; answers with what was inside. `whom`: Untrusted, CrossSignedOrLegacy or CrossSigned.
    async decrypt(room, event, whom) {
        const opened = await machine.decryptRoomEvent(JSON.stringify(event), new sdk.RoomId(room), trusting(whom));
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
