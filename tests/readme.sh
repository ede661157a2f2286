# The commands of the README at a small scale; needs `evo` on the PATH.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export COLUMNS=100

evo list
evo run sphere --generations 4 --out "$folder/a" --strategy.sigma 0.2
evo run sphere --generations 6 --out "$folder/a" --strategy.sigma 0.2 --resume --quiet
evo run sphere --generations 4 --out "$folder/b" --seed 1 --quiet
evo eval "$folder/a" --episodes 8
evo replay "$folder/a" --generation 3 --member 5 --out "$folder/member.safetensors"
evo plot "$folder/a" "$folder/b" --out "$folder/curves.png"
evo export "$folder/a" "$folder/solution.npz"

evo run arm_map_elites --generations 3 --out "$folder/arm" --quiet
evo archive "$folder/arm"
evo render "$folder/arm" --out "$folder/arm.gif"
evo export "$folder/arm" "$folder/elites.csv"
echo "the README's commands work"
