// Stops the clock of a Node process at the scene's last moment: node --import ./clock.mjs
const now = Number(process.env.SCENE_END) * 1000;
Date.now = () => now;
